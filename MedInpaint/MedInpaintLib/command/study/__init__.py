"""The commands of a study: train models, measure fills, and measure speed."""
