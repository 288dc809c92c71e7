"""Kafka Connect: its connectors registered from files, checked, shown, told in plain words."""
