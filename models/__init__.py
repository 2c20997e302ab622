"""Networks, image analysis, ontology, weights and training; imports nothing else of ours."""
