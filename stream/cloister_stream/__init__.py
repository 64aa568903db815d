"""A Flink job that asks a Cloister mesh: records from files, sealed to verified enclaves, each result written once."""
