"""Operations written for speed: fused forward and backward passes, and memory layouts."""
