"""`edgequilt plan`: a model in numbers, a fleet's boards, and a plan in words."""
