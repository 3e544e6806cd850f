"""Models and programs with known answers."""
