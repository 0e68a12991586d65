"""Stock Stable-Baselines3 agents as cells: trained by its own code, watched by our meters, recorded like our own."""
