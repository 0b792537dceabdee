"""The messages, by what they are about; all of them together are in wire.messages."""
