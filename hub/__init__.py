"""The server: enrolment, rounds, aggregation, journal."""
