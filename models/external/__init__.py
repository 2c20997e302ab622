"""Production backends: models of others behind our protocols, from a user's checkpoints."""
