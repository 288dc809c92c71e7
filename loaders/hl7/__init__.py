"""HL7 v2: bytes in, records out, no I/O.

``framing`` cuts the input into messages, ``charset`` turns a message's bytes into text, ``delimiters`` reads
MSH-1 and MSH-2, ``segments`` decodes what they delimit, ``decoder`` makes one record of one message,
``stream`` does all of it for a whole input, and ``publish`` makes the values that go to the topics.
``dictionary`` knows what positions are called, ``names`` writes records with that, ``validate`` asks hl7apy.
"""
