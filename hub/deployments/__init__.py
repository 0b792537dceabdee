"""What happens to a version that is made: trials on a few devices, promotion, the way back."""
