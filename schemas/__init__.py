"""The words that everything shares: events, requests, configuration, units. No I/O, no clock."""
