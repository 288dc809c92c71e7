"""Kafka: what the loader reads from and the decoder writes to."""
