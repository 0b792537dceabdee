"""How much each slot's weight matters, measured on rows of data by the model's own gradients."""
