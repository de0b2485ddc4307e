"""Pages to look at: self-contained HTML with plots and pictures."""
