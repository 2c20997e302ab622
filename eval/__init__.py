"""Cases, the tool-call scorer, image metrics, benchmarks and reports."""
