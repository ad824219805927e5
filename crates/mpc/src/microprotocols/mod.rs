//! The microprotocols, one file each.

pub mod answer;
pub mod benchmark;
mod categories;
pub mod columns;
pub mod contingency;
pub mod correlation_matrix;
pub mod frequency;
pub mod histogram;
pub mod kth_element;
pub mod minimum_maximum;
mod parameters;
pub mod quantiles;
pub mod ranked;
pub mod secure_sum;
pub mod statistics_bivariate;
pub mod statistics_univariate;
