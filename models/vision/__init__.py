"""Trained vision backends: nuclei by flows, organ by a probe on frozen features."""
