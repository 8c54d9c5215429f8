"""Pure decisions: functions of state, event and time given. No I/O, no clock, no randomness."""
