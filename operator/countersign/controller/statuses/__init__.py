"""What is told in the statuses of policies, audiences and orders."""
