"""What the benchmarks of many clients share: clients, brokers, hubs and what processes take."""
