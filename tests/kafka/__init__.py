"""What needs a real Kafka; a package, for files of the same name stand in the folders beside it."""
