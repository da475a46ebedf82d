"""What several attacks share: geometry, noise, priors, confirmed points, losses of scores."""
