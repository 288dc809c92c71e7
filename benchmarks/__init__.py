"""Peers and limits side by side; nothing here is a test."""
