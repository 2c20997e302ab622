"""Training of the vision models: `python -m models.train nuclei|tissue --help`."""
