"""Every member of the BERT family and its kin as a row of choices over shared parts."""
