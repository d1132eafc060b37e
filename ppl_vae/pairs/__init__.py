"""What happens when a pair of programs runs: traces, log-weights and their statistics, checks, what is put back."""
