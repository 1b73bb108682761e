//! Tests of the whole; nothing here is part of the product.
