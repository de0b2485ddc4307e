"""What is wrong with a data set: found, told, and where possible put right. No torch."""
