"""The real write path over an in-memory log, with virtual time and a seeded scheduler (DESIGN §9)."""
