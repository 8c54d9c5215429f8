"""The stream processor: `core` decides, `runtime` runs it."""
