"""MLLP: HL7 v2 over TCP. ``acknowledge`` makes what a sender is answered, ``server`` listens."""
