"""Derivatives of answers, written once for all algorithms:
an implicit function instead of a recorded iteration."""
