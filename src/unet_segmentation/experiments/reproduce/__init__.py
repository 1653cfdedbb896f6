"""Reproduce a tracked run and compare it with the original."""
