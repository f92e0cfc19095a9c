"""Does this machine do what it should: doctor, benchmark, sample, demo."""
