"""Moves and decodes clinical records; all meaning lives in the dbt models."""
