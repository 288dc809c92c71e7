"""A small invented hospital: its people, devices, prescriptions, telemetry and HL7 feed, from a seed."""
