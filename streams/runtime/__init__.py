"""The shell around the core: write path, Faust, Kafka, RocksDB, clocks. Decides nothing."""
