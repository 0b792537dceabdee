"""The hub behind mosquitto, against what mosquitto and paho take alone: `python -m bench.transport`."""
