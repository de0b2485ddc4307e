"""Labels and photographs in, samples out; never torch."""
