"""What a report shows, as plain data: one module per subject."""
