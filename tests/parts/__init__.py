"""Real parts for the tests: Kafka brokers, Kafka Connect, a Postgres of one's own, a TCP proxy between."""
