//! The microprotocols, one file each.

pub mod anova_one_way;
pub mod answer;
pub mod benchmark;
mod categories;
pub mod columns;
pub mod contingency;
pub mod correlation_matrix;
pub mod frequency;
pub mod groups;
pub mod histogram;
pub mod kth_element;
pub mod minimum_maximum;
mod parameters;
pub mod quantiles;
pub mod ranked;
pub mod secure_sum;
pub mod statistics_bivariate;
pub mod statistics_univariate;
mod summary;
pub mod t_test;
pub mod table_one;
