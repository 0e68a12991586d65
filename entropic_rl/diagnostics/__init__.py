"""What training does inside: derivatives traced factor by factor, and gradients checked against finite differences."""
