//! Subjects as NATS spells them: `polity.room.<tenant>.<log>`, both in hex.

use polity_bus::Subject;

/// The subject's text.
pub(crate) fn text(prefix: &str, subject: Subject) -> String {
    let kind = subject.kind.name();
    let mut text = format!("{prefix}.{kind}.{:016x}.", subject.tenant.to_i64());
    for byte in subject.id.as_bytes() {
        // Writing into a string can't fail.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use polity_bus::SubjectKind;
    use polity_core::{LogId, TenantId};

    use super::*;

    #[test]
    fn a_subject_names_prefix_kind_tenant_and_log() {
        let subject = Subject::new(SubjectKind::RoomEphemeral, TenantId::new(7), LogId::new([0xab; 16]));
        let hex = "ab".repeat(16);
        assert_eq!(text("polity", subject), format!("polity.room_ephemeral.0000000000000007.{hex}"));
    }
}
