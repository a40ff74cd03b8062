"""What perf/fairness is made of, one idea a file."""
