"""Tests on a real Kafka, and how they get one."""
