"""Training sessions: a task's rows, a trainer's steps, what is kept between them and what is said of them."""
