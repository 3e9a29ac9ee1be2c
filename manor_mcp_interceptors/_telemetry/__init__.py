"""What an operator sees: counters, OpenTelemetry, log lines."""
