"""Checks of algorithms."""
