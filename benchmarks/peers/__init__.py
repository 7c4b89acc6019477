"""Peers that cannot live in our environment:
scripts for an interpreter of their own, which exchange files."""
