"""Programs as data: sites, the intermediate form, the analysis, the graph, evaluation."""
