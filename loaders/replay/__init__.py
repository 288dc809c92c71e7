"""``cdw replay``: sends rejects through again, now that the gate or the decoder may have learned better."""
