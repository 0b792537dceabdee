"""What each number format costs a model: bytes, accuracy, agreement with fp32, time; as a table, JSON and a page."""
