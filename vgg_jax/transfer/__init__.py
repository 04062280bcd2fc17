"""Appendix B: a net's descriptors of the images of another data set, and a linear SVM on them."""
